"""Train a sparse autoencoder on a layer.

train_sae.py -> layer_cells.py (activations of random cells, on disk) -> dictionary_trainer.py (TopK, BatchTopK)
                -> training_report.py (what it rebuilds)
"""
