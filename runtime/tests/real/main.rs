//! The real runtime as a process, with real containers. Needs root, and Debian's busybox-static.

mod containers;
mod images;
mod lab;
mod streams;
