"""The only room that opens sockets and starts threads."""
