//! A whole cluster in one thread under virtual time.
