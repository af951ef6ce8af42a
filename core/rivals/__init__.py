"""What turn-over dropout is compared with: other ways to say which training items taught a model something.

All have one shape (`turnover.rivals.base`): a *problem* is one plain model, trained without turn-over dropout, with its
training items, its targets and the schedule that trained it; a *rival* gives a score for every pair of target and
training item, and says what that cost. One sign holds everywhere: a positive score says that the training item lowers
the target's loss (a proponent), a negative one that it raises it. `plain` and `repeat` make problems, `losses` and
`solvers` are what the methods share, `catalog` names them all, and every other module is one method; turn-over dropout has
the same shape (`turnover`), so that one table can hold it.
"""
