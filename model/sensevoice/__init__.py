"""SenseVoiceSmall on MLX: Mandarin, Cantonese, English, Japanese and Korean, whole utterances only.

Source: FunASR `SenseVoiceSmall`. The other modules import MLX, but `config` and `vocabulary` do not.
"""
