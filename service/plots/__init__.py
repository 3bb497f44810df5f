"""Drawings of sweeps and jobs, as SVG and PNG. Needs matplotlib, which is imported when something is drawn."""
