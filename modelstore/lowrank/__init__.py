"""Finding the low-rank product by which a merged matrix differs from its base.

Used where the adapter is unknown. It is a search: nothing here has to give the same result on
every machine, because what it finds is stored, and `modelstore.codecs.prediction` computes with
what is stored. So BLAS and float32 are welcome here.
"""
