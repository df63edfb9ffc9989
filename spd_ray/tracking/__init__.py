"""MLflow's side of a sweep: a parent run, a child run per trial, points in order, also after a server was away.

May import trials (for how far a trial is), study, training and kernels (for students), records, config and base;
`mlflow_store` alone imports MLflow. Hands out `Tracker` (runs, points, artifacts, the registered model and its
alias), the begin and end of a trial's run, and `send_missed_points`. Called by the driver alone: MLflow has one
writer.
"""
