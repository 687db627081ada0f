//! The listener as its clients see it: real sockets, raw bytes, a service that does as its path says.

mod ends;
mod fuzz;
mod http1;
mod http2;
mod limits;
mod reference;
mod smuggling;
mod support;
mod tls;
