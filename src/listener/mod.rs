//! Step 1: sockets to requests.
