//! Hosts without a receiver, a Mac for one: the whole tree as a tar stream, published by rename.
