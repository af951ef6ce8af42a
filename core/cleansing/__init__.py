"""Cleansing: remove the training items that hurt, and train again (Kobayashi et al. 2020, section 4.4).

The score of a training item is its mean influence on a validation set: most negative, it hurts most. What matters is the
comparison: a smaller training set changes a model even if any items went. So several *conditions* are trained from the same
seeds, without turn-over dropout: no removal, the same number of items removed at random (others for each seed), the lowest
scores removed, and, if wanted, what people decided by flags. Differences between conditions are paired by seed. Of each
training the epoch with the least loss on the items that stop it is kept.

choose       what each condition trains on
retraining   the trainings themselves
summary      means, and paired differences with intervals; needs no torch
scores       the scores, as a run keeps them; needs no torch
results      what came out, kept with the run; needs no torch
"""
