"""Comparing two versions on live traffic: how units are split, what is measured, how an experiment begins and ends."""
