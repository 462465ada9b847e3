"""What is done with the words of a session besides recognising them: by the server's rules, and by the client's."""

from __future__ import annotations

from typing import get_args

from parastream.model import profanity
from parastream.model.errors import ReplacementError
from parastream.model.profanity import Profanity
from parastream.model.replacements import Replacements
from parastream.server.wire.messages import Start
from parastream.server.wire.refusals import RefusalError


class Wording:
    """What the server does with words, unless a client asks for something else."""

    def __init__(self, replacements: Replacements = Replacements(), swearing: Profanity = "keep") -> None:
        self._swearing: Profanity = swearing
        choices: tuple[Profanity, ...] = get_args(Profanity)
        self._rules = {each: replacements.before(profanity.rules(each)) for each in choices}

    def rules(self, start: Start) -> Replacements:
        """Return what is replaced in a session: by its own rules, then by the server's.

        Raises:
            RefusalError: one of its rules cannot be read, or there are too many.
        """
        try:
            own = Replacements.read(start.replace, where="`replace`, ")
        except ReplacementError as error:
            raise RefusalError("unsupported", str(error)) from error
        return own.before(self._rules[start.profanity or self._swearing])
