"""What the paper claims and prints, and our data beside it: verdicts on claims, Tables 1 and 2, methods compared.

May import `numbers`, `wording` and `reading`; draws nothing.
Hands out `claims.examine(sweeps)`, `tables_1_and_2.compute(sweeps, name)`, `method_comparison.compute(sweep)`;
`printed` holds the paper's own values, `questions` what a claim asks of the data.
"""
