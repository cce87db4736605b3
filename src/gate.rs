//! **gate** decides. It is pure: no socket, no clock, no environment, no async; time is an argument.
