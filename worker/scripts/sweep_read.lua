-- A sweep as it is shown.
return shown_sweeps({id})
