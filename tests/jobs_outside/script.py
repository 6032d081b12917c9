"""What a request asks of the stub predictor, and what its whole answer is.

The prompt is the script: `job=17 tokens=40 pace=5`. So the answer to a prompt is known to whoever
has the prompt, and text that was continued after a death can be compared with text that was not.
"""

from dataclasses import dataclass

_MORE = ("", "", "", "é", "\n", "字", "", "\"'", "🙂", "")


@dataclass(frozen=True, slots=True)
class Script:
    """How the stub answers one job.

    `tokens` long, one every `pace` milliseconds. `start` milliseconds pass before the headers, and
    where `held` is set, they also wait for the file `go` beside the stub's journal. The first
    `busy` requests get 429. The first request that reaches token `die` loses its connection there.
    `status` refuses the job for good.
    """

    job: str
    tokens: int = 8
    pace: float = 0.0
    start: float = 0.0
    busy: int = 0
    die: int = -1
    status: int = 200
    held: bool = False

    @classmethod
    def read(cls, prompt: str) -> "Script":
        """The script in the first line of a prompt. Raises ValueError."""
        words = dict(
            word.split("=", 1) for word in prompt.partition("\n")[0].split() if "=" in word
        )
        if "job" not in words:
            raise ValueError(f"no script in the prompt {prompt[:80]!r}")
        return cls(
            job=words["job"],
            tokens=int(words.get("tokens", 8)),
            pace=float(words.get("pace", 0)),
            start=float(words.get("start", 0)),
            busy=int(words.get("busy", 0)),
            die=int(words.get("die", -1)),
            status=int(words.get("status", 200)),
            held=words.get("held") == "True",
        )

    def prompt(self) -> str:
        """The prompt from which `read` makes this."""
        return (
            f"job={self.job} tokens={self.tokens} pace={self.pace:g} start={self.start:g} "
            f"busy={self.busy} die={self.die} status={self.status} held={self.held}"
        )

    def token(self, number: int) -> str:
        """Token `number`, from 0 on. Some hold what is easily damaged on the way."""
        return f"{self.job}.{number}{_MORE[(number * 7 + len(self.job)) % len(_MORE)]} "

    def text(self, tokens: int | None = None) -> str:
        """The first `tokens` tokens; all without a number."""
        return "".join(self.token(n) for n in range(self.tokens if tokens is None else tokens))

    def tokens_in(self, text: str) -> int:
        """How many whole tokens make up `text`. Raises ValueError where it is no such beginning."""
        number = 0
        while text and number < self.tokens:
            token = self.token(number)
            if not text.startswith(token):
                raise ValueError(f"job {self.job}: after token {number} comes {text[:40]!r}")
            text, number = text[len(token) :], number + 1
        if text:
            raise ValueError(f"job {self.job}: {text[:40]!r} comes after the last token")
        return number
