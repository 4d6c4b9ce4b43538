"""What a submission may use while one of its exercises runs. `course grade` sets time and memory by options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxLimits:
    """What one exercise may use; each limit is held by the kernel where it has one for that, and watched from outside.

    cpu_seconds: processor time of the exercise and all that it starts.
    wall_seconds: for sleepers; ten times the processor time unless given.
    memory_bytes: of the submission, its files in /tmp included; beyond what the warm process shares with it.
    processes: alive at once, threads counted; None where it would count everything this person has running.
    file_bytes: of one file. folder_bytes: of all files in /tmp. open_files: at once.
    answer_bytes: of all values that come back for one exercise.
    """

    cpu_seconds: float = 10.0
    wall_seconds: float | None = None
    memory_bytes: int = 2**30
    processes: int | None = 32
    file_bytes: int = 16 * 2**20
    folder_bytes: int = 64 * 2**20
    open_files: int = 64
    answer_bytes: int = 32 * 2**20

    def __post_init__(self):
        for name in ("cpu_seconds", "memory_bytes", "file_bytes", "folder_bytes", "open_files", "answer_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the limit {name} must be above zero, not {getattr(self, name)!r}.")

    @property
    def wall(self) -> float:
        """Wall time in seconds."""
        return 10 * self.cpu_seconds if self.wall_seconds is None else self.wall_seconds


# Short: who looks for a limit finds the limits and nothing else.
LIMITS = SandboxLimits()  # unless somebody says otherwise
