"""Drawings: each module takes an analysis and gives figures that carry their alt text and their table.

canvas     the sheet, its style, printing to SVG, PNG and PDF
scores     what is drawn, before it is drawn
effects    forest, terms of a factorial, curve over levels
seeds      every seed, classes
learning   loss, accuracy, gap and learning rate by epoch
tradeoffs  accuracy against gap and seconds, throughput
search     history, importances and slices of a search
"""
