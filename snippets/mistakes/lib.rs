//! Programs that do not compile: server/, each with the error of the compiler beside it.
