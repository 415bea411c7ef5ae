{{ config(pre_hook="{{ forget_quarantined('dummyjson.users') }}") }}

{{ landed_manifests(source('dummyjson', 'users')) }}
