"""Class probabilities against labels: a case, a table, subgroups, baselines, comparisons."""
