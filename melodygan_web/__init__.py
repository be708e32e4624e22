"""The studio: a web interface to a store. The server's process loads no model; its worker does."""
