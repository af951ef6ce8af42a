"""Long work in its own process, which lives on when a tab is closed or the dashboard stops.

A job is a folder `RUNS/.jobs/ID/`, which anybody who looks into the runs folder sees:

    job.json        what it is: a label, when it was made, and its steps, each the arguments of one
                    `turnover …`
    lock            locked by the job's processes for as long as one of them lives
    pid             number of the process group
    progress.json   how far the step at work is (`turnover.storage.progress`)
    outcome.json    what the finished steps printed with --json, whether all is done, and what went
                    wrong
    cancelled       there if a person cancelled it
    log             what was said on stderr

Whether a job runs is asked of the lock, not of the process number: the system lets go of a lock
when the last process that has it ends, however it ends, and no other process that happens to get
the same number has it. The number is only used, to end the job, while the lock is held; as long as
a group has a process, its number is not given to anybody else. Jobs of one runs folder take turns,
since one training keeps all cores busy.
"""

from turnover.jobs.control import cancel_job, forget_job, resume_job, start_job
from turnover.jobs.job import Job, State, find_jobs, log_tail, read_job

__all__ = [
    "Job",
    "State",
    "cancel_job",
    "find_jobs",
    "forget_job",
    "log_tail",
    "read_job",
    "resume_job",
    "start_job",
]
