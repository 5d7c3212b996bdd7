"""The face of the server that is a remote: what `clone`, `fetch`, `pull` and `push` ask for.

Every value has the URL that it would have if a web server served the directory of a remote. In
addition keys can be listed, and, with the token, frames, records and registries be put.
"""
