"""How the blocks of a blob become fewer bytes, and the same bytes again.

A codec is a pure function of one block: numbers in, numbers out, no I/O.
``ids`` names the codecs and loads nothing; everything else here needs numpy, so whoever must stay
light imports it inside functions.
"""
