"""How spans leave: each export has somebody who can stop waiting, each loss a reason, and no span costs another one."""
