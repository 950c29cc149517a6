"""Decides what ships; pure rules."""
