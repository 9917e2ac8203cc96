//! What a multicast ring does, one thread at a time and with many.
