"""Language models over characters: n-grams, trained here or read from ARPA and KenLM files, and mixtures of them.

Characters fit all that a speech model may write: pieces of words in any segmentation, and Mandarin. A word ends with a
space; characters of scripts without spaces need none.
"""
