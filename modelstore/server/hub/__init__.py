"""The face of the Hugging Face Hub: what its clients ask, and the answers they expect.

A repository is a line of versions, ``llama_1b`` or ``mstore/llama_1b``; a revision is a version, an
alias, ``main`` for ACTIVE, or the first 40 digits of the id of a version.
"""
