//! What src/production/errors.md promises.
