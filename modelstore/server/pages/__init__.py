"""The face for people: pages that a browser shows, made on the server, that work without scripts."""
