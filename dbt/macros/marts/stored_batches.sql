{#- The list of the batches that a mart was made from. -#}
{% macro stored_batches() -%}
    {{ this.incorporate(path={'identifier': this.identifier ~ '__batches'}) }}
{%- endmacro %}
