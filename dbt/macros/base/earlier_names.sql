{#- The names that two macros had before; models of your own may still call them. -#}
{% macro forget_quarantined(source_name) -%}
    {{ delete_quarantined_batches(source_name) }}
{%- endmacro %}


{% macro forget_batches_without_manifest(manifests) -%}
    {{ delete_batches_without_manifest(manifests) }}
{%- endmacro %}
