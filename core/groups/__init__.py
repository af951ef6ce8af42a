"""Groups of training items: what they did to a mistake together, and the smallest one without which it is predicted not to be made.

One influence is mostly noise, and where forty training items teach the same thing, each of them alone matters little: the
others would have taught it too. Their sum says more, and its error grows far more slowly (`turnover.estimators.posterior`).

- `choose`: which items form a group: texts with certain words, a class, a planted mark, those flagged for dropping, a list
  of ids, the ends of a ranking.
- `sums`: a group's influence on a mistake, its error and a word for it, and how it compares with random groups.
- `flip`: the smallest group whose removal is predicted to flip the mistake.

Sums of influences say which groups matter more than others. They are those of half networks and of items that leave one by
one: training a whole network again without the group moves it several times less. Nothing here needs torch.
"""
