"""Prefect automations as code: validate, plan, apply. A folder that can be copied or installed by itself."""

__version__ = "0.2.0"
