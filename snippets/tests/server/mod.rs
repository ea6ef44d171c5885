mod deploying;
mod echo;
mod graceful_shutdown;
mod graceful_shutdown_connections;
mod hello_world;
mod zero_downtime;
