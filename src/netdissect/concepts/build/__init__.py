"""Write a data set in Broden's layout from labeled images of any source.

    sources -> build.py -> sample.py (Sample) -> writer.py -> data set

`writer.py` calls `render.py` (images and draft label maps of one sample), `apply_vocabulary.py` with `vocabulary.py`
and `synonyms.py` (which names are one concept, and their label ids) and `broden_tables.py`. `manifest.py` and
`atomic_dir.py` make a build resumable and the result complete, `parallel.py` runs the workers.
"""
