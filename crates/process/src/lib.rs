//! Functions as Linux processes: isolation, Runtime API, framed transport, bootstraps.
