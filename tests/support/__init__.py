"""Helpers of the test floors."""
