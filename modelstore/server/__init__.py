"""The server: what `mstore serve` answers, one face a package.

`modelstore.server.hub` speaks as the Hugging Face Hub does. Every face has a function
``routes(context)``; `modelstore.server.app` puts them together, behind the checks of
`modelstore.server.security`. Nothing here is loaded by any other command.
"""
