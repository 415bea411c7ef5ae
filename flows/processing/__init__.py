"""Pending batches -> dbt build -> ledger."""
