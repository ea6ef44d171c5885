//! Programs that do not compile: server/ and upgrading/, each with the error of the compiler beside it.
