"""Words that some do not want to read: a short list, English and Mandarin, for masking or leaving out."""

from __future__ import annotations

from typing import Literal

from parastream.model.replacements import Replacements

Profanity = Literal["keep", "mask", "drop"]
"""What becomes of such words: `f***`, or nothing."""

_LEFT = r"""
    /(mother)?fuck(s|ed|er|ers|in|in'|ing|face|wit)?/
    /(bull|dip|horse)?shit(s|ty|ted|ting|head|heads)?/
    /bitch(es|y|ing)?/
    /(dumb|jack)?ass(hole|holes|hat|hats)/
    /arsehole(s)?/
    /cunt(s)?/
    /dickhead(s)?/
    /cocksucker(s)?/
    /twat(s)?/
    /wank(er|ers|ing)/
    /slut(s|ty)?/
    /whore(s)?/
    /faggot(s)?/
    /nigger(s)?/
    /god(dam|damn|dammit|damnit)/
    傻逼
    操你妈
    肏你妈
    他妈的
    王八蛋
    狗日的
    婊子
"""


def rules(profanity: Profanity) -> Replacements:
    """Return the rules for a list of such words; none to keep them."""
    if profanity == "keep":
        return Replacements()
    right = "*" if profanity == "mask" else ""
    return Replacements.read(f"{left} => {right}" for left in _LEFT.split())
