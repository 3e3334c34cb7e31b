"""The folder of an unfinished run.

fingerprint -> WorkDir (lock, plan, checkpoints) with RunLog, PerImageFiles and the saved configuration
"""
