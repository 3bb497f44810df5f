-- The living workers.
return living()
