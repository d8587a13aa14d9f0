//! The embedded store: documents and blobs on one machine's disk.
