"""Accuracy of classes when units are ablated."""
