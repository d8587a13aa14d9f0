//! HTTP: Lambda API shapes and error table, function URLs, Brooklet's own API, authentication.
