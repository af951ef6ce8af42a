"""Jobs: long work in its own process, which survives a closed tab or a stopped dashboard.

A job is a folder `RUNS/.jobs/ID/`, visible to everyone who opens the runs folder:

    job.json        a label, when it was created, and its steps, each the arguments of one
                    `turnover …`
    lock            locked by the job's processes for as long as one of them lives
    pid             number of the process group
    progress.json   progress of the current step (`turnover.storage.progress`)
    outcome.json    what the finished steps printed with --json, whether all are done, and the error
    cancelled       present if someone cancelled it
    log             the stderr of its processes

Whether a job runs is read from the lock, not from the process number: the system releases a lock
when the last process holding it ends, however it ends, and no later process with the same number
can hold it. The number is only used to end the job, while the lock is held; it is not reused as
long as the group has a process. Jobs of one runs folder run one at a time, since one training keeps
all cores busy. Those at low priority take turns among themselves.
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
