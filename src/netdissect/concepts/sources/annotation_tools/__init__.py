"""Exports of annotation programs: shapes, polygons, run lengths."""
