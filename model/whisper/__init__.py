"""Whisper on MLX, as a final pass: whole utterances in, words with times and confidences out.

Source: Radford et al. 2022 (Robust speech recognition via large-scale weak supervision); openai/whisper.
"""
