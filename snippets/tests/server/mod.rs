mod echo;
mod graceful_shutdown;
mod hello_world;
