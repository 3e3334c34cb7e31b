"""Views: plain values that a template prints.

    LayerTables -> masked_images -> unit_views, wall, matched_units, training_views -> `netdissect.report.pages`
    LayerTables -> run_views (layers, runs, concepts)                               -> `netdissect.report.pages`
    files of interventions -> intervention_views                                    -> `netdissect.report.pages`

Nothing here writes a file, so that a report on disk and a server show the same.
"""
